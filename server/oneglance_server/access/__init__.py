"""Who calls, and what they may: credentials, the policy file, and the rights that the services ask for."""
