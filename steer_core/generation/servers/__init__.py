"""Servers of models: vLLM in an environment of its own, started, watched and stopped from here.

room       the folder through which steering gets into that environment
command    command line and environment, as plain data
remedies   what went wrong at a start, and what to do
server     start, attach, call, stop
"""
