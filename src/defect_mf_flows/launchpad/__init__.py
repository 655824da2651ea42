"""FireWorks, as the local runner and a site share it: progress, failures, patience."""
