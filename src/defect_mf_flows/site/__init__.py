"""A group's site: LaunchPad and job store on a MongoDB server, workers on a cluster."""
