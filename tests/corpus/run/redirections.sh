# Redirections of a POSIX shell: `exec 3>`, a copy, a here-document, a subshell, a background job.
#
# run:
# expect: nothing
exec 3>log 4<&0
echo text >&3
ls / >/dev/null 2>&1
cat <<END >/dev/null
text
END
(
    exec 5<log
    read -r line <&5
    [ "$line" = text ]
) || exit 1
sleep 0.01 &
wait
echo again 3>&1 >&3
exec 3>&- 4<&-
exec 3>&-
true
