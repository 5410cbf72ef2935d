"""What the world can be asked to make: one module per kind, called by the AWS API and by CloudFormation alike.

An operation takes a `Context` first, raises `AwsError` with the code AWS gives, and has written the state when it
returns.
"""
