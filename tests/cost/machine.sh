#!/bin/sh
# The sentence of docs/scaling.md that names the machine of its figures.
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
virtual=$(grep -q hypervisor /proc/cpuinfo && echo ", in a virtual machine")
load=$(cut -d ' ' -f 1 /proc/loadavg)
echo "Medians of 15 rounds on ${model:-$(uname -m)}$virtual, $(nproc) processors, Linux $(uname -r | cut -d - -f 1);"
echo "load average when it began: $load."
