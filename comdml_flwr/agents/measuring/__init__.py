"""What a node measures of itself and of its links, by the stopwatch: its speed, its memory, its peers.

Nothing here changes what is trained. What is measured differs from run to run, so that with it plans do, too;
`profiles = "fleet"` keeps to the fleet file.
"""
