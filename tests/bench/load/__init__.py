"""`make bench-load`: this load generator beside others, in alternation, on the same Triton. Ratios, not speeds.

server   the Triton and its identity model
ours     the Generator as a run uses it: Locust process, engine, recording
peers    the other tools: perf_analyzer, tritonclient, Locust with tritonclient, wrk, k6, AIPerf
"""
