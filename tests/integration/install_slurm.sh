#!/bin/sh
# Install Slurm and munge where that is possible: Debian or Ubuntu, as root. Elsewhere say why not
# and succeed: the tests then skip with the same reason.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

missing=
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "SLURM TESTS WILL BE SKIPPED: no$missing, and no apt-get to install them" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "SLURM TESTS WILL BE SKIPPED: no$missing, and installing them needs root" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >&2
then
    echo "SLURM TESTS WILL BE SKIPPED: apt-get could not install slurm-wlm and munge" >&2
fi
