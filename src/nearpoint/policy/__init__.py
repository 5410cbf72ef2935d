"""IAM policy documents: what they allow, what they deny, and why.

`document` reads a policy, `evaluate` decides, `conditions` holds the operators, `s3_actions` names what an S3 request
does, `managed` holds the AWS managed policies that are known here (IAM User Guide, "Policy evaluation logic").
"""
