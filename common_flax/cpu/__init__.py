"""Fast code for CPUs, kept apart from the textbook forms that it replaces.

`dispatch` switches between the textbook forms and the fast forms, which are in
`convolutions` (with `winograd`), `sums`, `threefry` and `fusion`. `compiler`,
`memory` and `startup` set up XLA, the allocator and imports.
"""
