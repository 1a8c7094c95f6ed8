"""What strategy files say: formats, the s-expression reader, and documents that know their positions."""
