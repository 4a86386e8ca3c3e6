#!/bin/bash
# A job that carries on by itself: at its time limit, after a preemption, after the loss of its first node. Submit with: sbatch job.sh
#SBATCH --ntasks=4
#SBATCH --time=10
#SBATCH --requeue               # SLURM may start the job again (preemption, a lost node)
#SBATCH --no-kill               # a lost node does not end the job: its tasks run on the others
#SBATCH --signal=B:USR1@60      # a minute before the end of its time taskrun is told, and gives its tasks back
#SBATCH --open-mode=append

taskrun primes.txt &
taskrun=$!
trap 'kill -USR1 $taskrun' USR1
wait $taskrun; code=$?
while kill -0 $taskrun 2> /dev/null; do wait $taskrun; code=$?; done # a signal ends a wait

# 3: stopped before the end, resumable. SLURM starts the job again, unless it was cancelled (then it is no longer RUNNING),
# and taskrun finds its own status file and appends to it.
if [ $code -eq 3 ] && [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
