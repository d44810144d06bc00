"""What a render run remembers: scene states, the ledger, the lease, the policy, the tally."""
