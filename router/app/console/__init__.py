"""The console of a gateway process: who looks on, what they are shown each tick, what they ask."""
