//! What the product promises, shown through the real executable. The table of contents.
