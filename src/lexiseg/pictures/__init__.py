"""Pictures as numbers, without torch.

file, bytes, array ─ reading.py ─ pixels ─ preparation.py ─ the sizes and numbers that a model wants
file of any size ─ strips.py ─ rows from top to bottom
"""
