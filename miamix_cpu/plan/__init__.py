"""Stages 1 and 2, the plan: everything random about a batch, drawn before anything is rendered.

mix_plan.py is the record, MixPlan; layers.py that of a layer; rules.py has what must hold for both. sampling.py draws a
plan: partners and numbers of layers (pairs.py, with pairing.py, or by labels choose_partners.py), the layers' methods
and ratios, and what each method draws for itself (masks). streams.py makes the generator from (seed, epoch, samples).

May import checks, config, options, jit and masks.
"""
