"""Models that answer over the network: what is sent, what came back, what it cost.

* `dialects`: how endpoints differ; `request`: a plan as a request, a reply as an answer.
* `tokens`: the model's own tokenizer; `scoring`: log-probabilities of given texts, held against what was sent.
* `faults`: what an attempt that failed means: wait, again, never, or stop the run.
* `prices`: money for tokens; `ledger`: every attempt, kept the moment it ends, and money reserved before it begins.
* `pace`: how many at a time and how fast; `addresses`: where to, of several, and who is given up.
* `pump`: calls in, answers out, all attempts between.
"""
