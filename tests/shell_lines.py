"""Lines of a shell: whole commands, those that lack something, and a grammar that makes more."""

from __future__ import annotations

from hypothesis import strategies as st

#: (line, kind, what is open, where); no kind: it is wrong in another way.
LACKING = [
    ("echo a \\", "backslash", "\\", 7),
    ('echo "a\\', "backslash", "\\", 7),
    ("echo 'a", "quote", "'", 5),
    ("echo it's", "quote", "'", 7),
    ('echo "a', "quote", '"', 5),
    ('echo "$(date', "quote", '"', 5),
    ("echo $'a\\'", "quote", "$'", 5),
    ("echo `date", "quote", "`", 5),
    ("echo ${x", "quote", "${", 5),
    ("echo $((1 + (2))", "quote", "$((", 5),
    ("((i = 1", "quote", "((", 0),
    ("[[ -f x", "quote", "[[", 0),
    ("x=$(date", "block", "$(", 2),
    ("diff <(sort a) <(sort b", "block", "<(", 15),
    ("(cd x; make", "block", "(", 0),
    ("x=(a b", "block", "=(", 2),
    ("{ echo a }", "block", "{", 0),
    ("for i in 1 2 3; do", "block", "for", 0),
    ("for i in 1 2 3", "block", "for", 0),
    ("for ((i = 0; i < 3; i++)); do echo $i", "block", "for", 0),
    ("  while read x; do", "block", "while", 2),
    ("seq 3 | while read x; do echo $x;", "block", "while", 8),
    ("until false; do if true; then date; done", "", "", 0),  # wrong in another way
    ("until false; do if true; then date; fi", "block", "until", 0),
    ("if true; then", "block", "if", 0),
    ("if [ -f x ]; then echo a; else", "block", "if", 0),
    ("if true; then (case $x in a) date; fi", "", "", 0),
    ("case $x in", "block", "case", 0),
    ("case $x in a) echo b ;;", "block", "case", 0),
    ("f() {", "block", "{", 4),
    ("f()", "block", "function", 0),
    ("function f", "block", "function", 0),
    ("function f () { date", "block", "{", 14),
    ("done", "inner", "done", 0),
    ("  done < list", "inner", "done", 2),
    ("echo a; done", "inner", "done", 8),
    ("do echo $i", "inner", "do", 0),
    ("then date", "inner", "then", 0),
    ("else", "inner", "else", 0),
    ("elif true; then", "inner", "elif", 0),
    ("fi", "inner", "fi", 0),
    ("esac", "inner", "esac", 0),
    ("}", "inner", "}", 0),
    ("a) echo b ;;", "inner", ")", 1),
    ("echo b ;;", "inner", ";;", 7),
    ("cat <<EOF", "here-document", "<<", 4),
    ("cat <<-'END' > x", "here-document", "<<-", 4),
    ("python3 - << EOF", "here-document", "<<", 10),
    ("echo a &&", "operator", "&&", 7),
    ("echo a | ", "operator", "|", 7),
    ("echo a >", "", "", 0),
    ("f() { date }", "block", "{", 4),
    ("! { date", "block", "{", 2),
    ("date; time -p { date }", "block", "{", 14),
    ("a |& # b", "operator", "|&", 2),
    ("a ;&", "inner", ";&", 2),
]

WHOLE = """
echo a; (cd x && make); { date; }; echo "it's" 'a"b' a\\'b $'it\\'s' # don't
awk '{ print $1 }' < x | sort -n > y 2>&1 &
for i in 1 2 3; do echo $i; done > log
for i do echo $i; done
for f in *.txt; do [[ $f =~ ^(a|b)$ ]] && continue; case $f in (a|b) ;; *) echo "$f";; esac; done
for ((i = 0; i < 3; i++)); do echo $((i << 2)); done; echo $((16#ff)) $# ${#x} ${x#y} ${x:-"a b"} "${x:-a}"
if ! grep -q x y; then echo a; elif true; then (date); else { date; } fi
while read -r x; do echo "$(basename "$x" ')')"; done < <(ls)
cat <<< "text"
echo done fi } { do then esac \\) '(' "{"
{ (date) }
f() { echo a; }; f
function f { date; }; g () (date)
time -p { date; }
x=(a "b c" $(date)) y+=(d) ls
echo {a,b}{1..3} }x a}b
!  true
< x cat 2> y
echo a#b '#' \\# `date # x`
test -f x || exit 0
export A="x y"; exec "$A" --opt={1,2}
[ "$x" = 'done' ] && echo ok
echo $"text" "\\"" "`date`" "a \\` b" "$'"
find . -name '*.c' -exec grep -l x {} \\; -print
select x in a b; do break; done
if [[ -f x && ( a < b ) ]]; then date; fi
echo a; }x
""".strip().split("\n")

WORD = st.sampled_from(
    ["a", "-n", "$x", "'it \" s'", '"it\'s $x"', "\\'", "$(date)", "${x:-a}", "`date`", "{a,b}", "$((1<<2))", "done", "if", '"$(b "c")"']
)
SIMPLE = st.tuples(st.just("echo"), st.lists(WORD, max_size=3).map(" ".join), st.sampled_from(["", "> x", "2>&1", "<<< a"])).map(" ".join)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    shapes = [
        "( {} )",
        "{{ {}; }}",
        "for i in a b; do {}; done",
        "if {}; then {}; else {}; fi",
        "while {}; do {}; done > x",
        "f() {{ {}; }}",
    ]
    shapes += ["case $x in a) {};; (b|c) {};; esac", "{} && {}", "{} | {}", "x=$({})", 'echo "$({})"', "! {}", "for ((;;)); do {}; done"]
    return st.tuples(st.sampled_from(shapes), inner, inner, inner).map(lambda parts: parts[0].format(*parts[1:]))


_NESTED = _compound(SIMPLE)
COMMAND = st.one_of(SIMPLE, _NESTED, _compound(st.one_of(SIMPLE, SIMPLE, _NESTED)))

SOUP_WORDS = (
    "if|then|elif|else|fi|for|while|until|do|done|case|esac|in|function|time|!|{|}|(|)|((|))|[[|]]|'|\"|`|$(|${|$((|;|;;|&|&&|>|<|<<<|2>|"
    "a|b|x|y=1|z=(|#|\\|\\a|$x|f()|-p|$'|'q'|\"q\"|{a,b}|$#|*)|(a)|a)|;&|<(|select"
)
#: Words of the grammar in any order.
SOUP = st.lists(
    st.tuples(st.sampled_from([*SOUP_WORDS.split("|"), "|", "||", "|&"]), st.sampled_from([" ", " ", " ", ""])).map("".join),
    min_size=1,
    max_size=10,
).map("".join)
