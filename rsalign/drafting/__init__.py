"""A draft beside the policy: a smaller model that proposes, with the laws of both on each token."""
