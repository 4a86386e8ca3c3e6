#!/bin/bash
# Eight slots of a node for the run `run`, which was started elsewhere in this folder: taskrun tasks.txt -S -p run
# Submit with: qsub sge.sh (`smp` is what your site calls the parallel environment of one node: qconf -spl)
#$ -S /bin/bash
#$ -cwd
#$ -pe smp 8
exec taskrun attach run -s "localhost:$NSLOTS"
