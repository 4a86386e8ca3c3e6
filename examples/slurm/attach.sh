#!/bin/bash
# Nodes for a run that is going on: give its prefix. Submit with: sbatch attach.sh primes.txt_JOBID
#SBATCH --ntasks=2
exec taskrun attach "$1"
