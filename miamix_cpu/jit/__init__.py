"""How Numba is used. The only room that imports numba.core or llvmlite.

flags.py has the decorators and their flags and is read first; compiler.py adjusts Numba's compiler; cache.py keeps
code on disk, progress.py says so where compiling takes long; intrinsics.py has the few instructions that Numba lacks.

May import no other room. Private API of Numba is used here, behind `private_api.attempt`.
"""
