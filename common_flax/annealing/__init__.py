"""Annealed importance sampling of log Pr(x) for models with latent variables.

It knows a model by a function alone, the log of the joint density Pr(x, z).

Sources: R. Neal (2001), "Annealed importance sampling"; R. Grosse et al.
(2015), arXiv:1511.02543; Y. Wu et al. (2017), arXiv:1611.04273.
"""
