"""Walks the plan: the composition root, the journal, and putting things back.

Each command imports the module that it needs: moving traffic back must not wait for what judges a recording.
"""
