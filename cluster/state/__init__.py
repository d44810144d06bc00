"""What a render run remembers: scene states, the ledger, the policy, the tally."""
