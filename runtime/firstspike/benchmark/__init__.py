"""`firstspike bench`: the same windows through every back end that can run, in one table.

`windows` gets them, `contestants` says who runs and why others cannot, `measure` compares and times, `table` prints.
"""
