"""What LocalStack's EC2 lacks for a daemon that manages VPC addresses.

LocalStack finds it by the entry point beside this package, on PYTHONPATH. `hooks` says what is
changed when; `space` finds free addresses; `interfaces` is what calls on network interfaces do.

It changes classes of moto in place, so it fits the versions in `requirements.lock` and no others.
"""
