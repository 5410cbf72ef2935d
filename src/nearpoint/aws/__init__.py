"""To AWS and back: packaging, deploying, verifying, deleting. Every AWS call goes through boto3.

The same code works on the local world and on AWS; which one is decided by the `Clients` it is given.
"""
