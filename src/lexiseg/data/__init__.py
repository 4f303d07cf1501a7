"""Data sets, and the samples that training draws from them."""
