#!/usr/bin/env bash
# Runs a stage on several machines under Slurm. Start it at the repository's root with the environment activated:
#     sbatch --nodes 2 --gpus-per-node 8 accelerate_configs/slurm.sh pretrain recipes/M/pretrain.yaml [--key value ...]
# ACCELERATE_CONFIG sets a config other than multi_node.yaml.
#SBATCH --job-name=zero2chat
#SBATCH --ntasks-per-node=1  # accelerate itself starts the ranks of a machine
#SBATCH --exclusive
#SBATCH --requeue  # after a machine fails, the same command resumes from the last checkpoint
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: sbatch --nodes N --gpus-per-node G $0 STAGE YAML [--key value ...]" >&2
    exit 2
fi
stage=$1 yaml=$2
shift 2
names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${names%%$'\n'*}
gpus=${SLURM_GPUS_ON_NODE:-1}
port=$((20000 + SLURM_JOB_ID % 10000))  # a different port per job, in case two jobs share a machine
# Only the machine itself knows its rank, so an inner shell reads it.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' accelerate \
    --quiet --deepspeed_multinode_launcher standard \
    --config_file "${ACCELERATE_CONFIG:-accelerate_configs/multi_node.yaml}" --num_machines "$SLURM_NNODES" \
    --num_processes $((SLURM_NNODES * gpus)) --main_process_ip "$first" --main_process_port "$port" \
    -m "zero2chat.stages.$stage" --config "$yaml" "$@"
