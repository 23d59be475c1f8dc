"""How surely and how fast planted bugs are found, beside other ways to look for them."""
