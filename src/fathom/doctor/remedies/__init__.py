"""What the doctor does about a finding: one remedy each. All of them can be taken back."""
