"""Stages 1 and 2, the plan: everything random about a batch, drawn before anything is rendered.

mix_plan.py is the record, MixPlan; sampling.py draws it: partners (pairing.py), the number of layers, their methods and
ratios, and what each method draws for itself (masks). streams.py makes the generator from (seed, epoch, samples).

May import config, options, jit and masks.
"""
