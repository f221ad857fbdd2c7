"""A bias in other forms: for servers that run no processor of ours."""
