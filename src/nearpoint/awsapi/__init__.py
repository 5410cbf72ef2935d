"""The AWS services that the local world answers: one module per service, thin over `stack` and `state`.

Read `front` first: what every call goes through, in order. `call` is what a handler gets; `s3` streams and has its own
way through.
"""
