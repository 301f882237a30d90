"""Operations: what is done to models beside a canary, each step observed, judged from what was observed.

An operation is four things: its steps in words (`scenario.operations`), how it is carried out and observed (a module
here for each kind), how the observations are judged (`judge.operations`), and what is said of it (`report.operation`).

Guarantee: every change of what serves is whole or undone, by `run.models`; whatever dies, `recover` undoes the one that
was cut off.
"""
