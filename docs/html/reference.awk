# Turns include/ringmsg.h into a page: awk -f reference.awk ringmsg.h
# A block of the header is a banner, or a comment and the declaration that follows it. The functions
# come first, by section, then the structs and the constants; an index links all functions.
BEGIN {
    RS = ""
}
/^\/\* -+ \*\/\n/ {
    split($0, line, "\n")
    title = line[2]
    gsub(/^\/\* | *\*\/$/, "", title)
    functions = functions "## " title "\n\n"
    list = list "\n* " title ": "
    separator = ""
    next
}
!/^\/\*\n/ { next }
{
    end = index($0, "\n */\n")
    if (end == 0) next
    text = substr($0, 4, end - 4)
    code = substr($0, end + 5)
    name = name_of(code)
    if (name == "") next
    block = "### " name "\n\n"
    count = split(text, line, "\n")
    for (i = 1; i <= count; i++) block = block prose(line[i]) "\n"
    block = block "\n```c\n" code "\n```\n\n"
    if (name ~ /^struct /) structs = structs block
    else if (name ~ /^RINGMSG_/) constants = constants block
    else {
        functions = functions block
        anchor = name
        sub(/\(\)$/, "", anchor)
        list = list separator "[" name "](#" anchor ")"
        separator = ", "
    }
}
END {
    print "# Functions, structs and constants\n"
    print "Generated from `ringmsg.h`, which is authoritative."
    print list "\n* [Structs](#structs), [Constants](#constants)\n"
    printf "%s## Structs\n\n%s## Constants\n\n%s", functions, structs, constants
}
function prose(line) {
    sub(/^ \* ?/, "", line)
    gsub(/&/, "\\&amp;", line)
    gsub(/</, "\\&lt;", line)
    if (match(line, /^(Ownership, Threads|Ownership|Threads|Returns):/))
        line = "**" substr(line, 1, RLENGTH) "**" substr(line, RLENGTH + 1)
    if (line ~ /^\*\*Threads:/)
        sub(/ Returns:/, " **Returns:**", line)
    return line
}
function name_of(code,    word) {
    if (match(code, /^#define RINGMSG_[A-Z0-9_]+/)) return substr(code, 9, RLENGTH - 8)
    if (code ~ /^struct ringmsg_[a-z_]+( \{|;)/) { split(code, word, /[ ;]/); return "struct " word[2] }
    if (match(code, /ringmsg_[a-z0-9_]+\(/)) return substr(code, RSTART, RLENGTH - 1) "()"
    return ""
}
