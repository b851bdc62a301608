"""How far the same training may be from itself on processors, and BLAS kernels, of any kind."""

SUMMED = 2e-5
"""Relative difference of fp32 losses and norms whose sums were taken in another order.

Kernels for other shapes add in other orders: some 1e-7 a sum, and a few steps make 1e-6 of it. A batch
that is weighed wrongly, which such tests are for, moves a loss by 1e-2.
"""
