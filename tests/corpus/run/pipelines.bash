# bash 5.2 closes the descriptors of a pipe twice in loops over pipelines of three stages: a true finding.
#
# needs: bash 5.2
# run:
# expect: double-close error any
for i in 1 2 3; do
    echo "$i" | cat | cat >/dev/null
done
