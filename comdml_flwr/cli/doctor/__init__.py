"""Looks at a machine that is to take part in a federation: what is wrong, and what mends it.

A check is a function that returns `Finding`s and changes nothing on the machine; cli/commands/doctor.py says
in which order they come. What is measured here is measured now, on this machine; clocks of two machines are
never compared.
"""
