"""FreeDA's offline stage: from captions, or from one's own pictures, to a bank of prototypes.

captions ─ collection.py ─┬─ diffusion.py ─ image, attention ─ attribution.py ─ masks ─┐
                          └─ nouns.py ─ words ─ text_keys.py ─ keys                    │
pictures with masks, boxes or clicks ─ annotated.py ───────────────────────────────────┤
                                                    encoding.py: features, pooled ─────┴─ bank

tasks.py is a caption to work at and what it gave; building.py makes a bank of many captions and
goes on where it was stopped, recipe.py says what to load on any machine, distributed.py spreads the
captions over them (Ray Data).
"""
