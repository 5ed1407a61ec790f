# Process substitution, a coprocess, `exec` with automatic numbers and here-strings of bash.
#
# run:
# expect: no-failure
exec {log}>log
echo text >&"$log"
diff <(echo a) <(echo a) || exit 1
read -r line <<<"text"
[ "$line" = text ] || exit 1
for file in a b c; do
    echo "$file" >"$file"
done
while read -r word; do
    echo "$word" >/dev/null
done < <(cat a b c)
exec {log}>&-
