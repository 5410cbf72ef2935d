"""`nearpoint import`: from a distribution and an access point that exist to the template that makes such ones.

`read` asks AWS (`reading`, `functions`, `bucket_reading`), `compose` turns what was found into a template with literal
ids, `references` puts Ref and GetAtt in their place, `text` writes it down.
"""
