"""The rollout gate: whether a candidate may replace the stable side, by pairs of short measurements of both.

Owns the pairs, their order, when the gate ends, and how its result is written. A half of a pair is a sweep as any other
(`sweep/`); who measures it, and when its turn has come, is the caller's. It never imports web, commands or daemon.
"""
