"""From curves of many seeds to statements that can be wrong, and say how often they are.

A profile gives a number per seed and step. "It begins at step 430" is a claim about the mean over all seeds there
could be, and the obvious ways of reading it off a plot (the first step with p < .05, where two bands part, a slope
that is not significant) are wrong far more often than the 5 % they promise. This room holds those that keep their
promise, each tested on curves with known answers beside the obvious way, which fails the same test.

It knows NumPy and SciPy, and nothing of stores or networks. Curves come as arrays [seed, step], where steps count
in the order of generation: step 0 is the first that is taken, near the noise, and the last one makes the image.
"""
