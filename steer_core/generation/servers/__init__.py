"""Servers of models: vLLM in an environment of its own, started, watched and stopped from here.

room       the folder through which steering gets into that environment
command    command lines and environment, as plain data
remedies   what went wrong at a start, and what to do
process    a process group of that environment, and its log
running    what a running vLLM is asked for, whichever way
server     `vllm serve`: start, attach, call, stop
starting   which of the two a model's settings ask for
adapters   which adapters it has, handed in or its own
scored     log-probabilities of texts that are there
offline    the same engine without a server, at the other end of a pipe
"""
