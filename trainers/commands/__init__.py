"""The commands of `ditflow`, one file each."""
