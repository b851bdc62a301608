"""The processes of a job: plain classes, made Ray actors at the edge."""
