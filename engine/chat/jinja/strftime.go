package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// strftimeNow formats the rendering's time as Python's strftime does in the C locale.
func strftimeNow(st *state, a *arguments) (Value, error) {
	v, err := a.bind("strftime_now", 1, "format")
	if err != nil {
		return nil, err
	}
	format, err := textArgument(v[0], "format", Text{})
	if err != nil {
		return nil, err
	}
	const longest = 4096 // directives expand
	if len(format.s) > longest {
		return nil, fmt.Errorf("%w: a time format longer than %d bytes", ErrLimit, longest)
	}
	return st.mapRuns(format, func(run string) string { return strftime(st.now, run) })
}

// strftime expands the directives of a format: "%Y", and with the flags of glibc between them "%-d" (no padding), "%_d"
// (spaces), "%0e" (zeros), "%^a" (upper case). What is not a directive stays as it is.
func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		at, flag := i+1, byte(0)
		if strings.IndexByte("-_0^#", format[at]) >= 0 && at+1 < len(format) {
			flag = format[at]
			at++
		}
		text, ok := directive(t, format[at], flag)
		if !ok {
			b.WriteByte('%')
			continue
		}
		if flag == '^' || flag == '#' {
			text = strings.ToUpper(text)
		}
		b.WriteString(text)
		i = at
	}
	return b.String()
}

// composed are the directives that stand for others.
var composed = map[byte]string{
	'c': "%a %b %e %H:%M:%S %Y", 'D': "%m/%d/%y", 'F': "%Y-%m-%d", 'R': "%H:%M", 'r': "%I:%M:%S %p", 'T': "%H:%M:%S",
	'x': "%m/%d/%y", 'X': "%H:%M:%S", 'h': "%b",
}

func directive(t time.Time, c, flag byte) (string, bool) {
	if format, ok := composed[c]; ok {
		return strftime(t, format), true
	}
	pad := func(n, width int, fill byte) (string, bool) {
		switch flag {
		case '-':
			width = 0
		case '_':
			fill = ' '
		case '0':
			fill = '0'
		}
		digits := strconv.Itoa(n)
		return strings.Repeat(string(fill), max(0, width-len(digits))) + digits, true
	}
	isoYear, isoWeek := t.ISOWeek()
	weekday := int(t.Weekday())
	switch c {
	case 'a':
		return t.Format("Mon"), true
	case 'A':
		return t.Format("Monday"), true
	case 'b':
		return t.Format("Jan"), true
	case 'B':
		return t.Format("January"), true
	case 'C':
		return pad(t.Year()/100, 2, '0')
	case 'd':
		return pad(t.Day(), 2, '0')
	case 'e':
		return pad(t.Day(), 2, ' ')
	case 'f':
		return pad(t.Nanosecond()/1000, 6, '0')
	case 'G':
		return pad(isoYear, 4, '0')
	case 'g':
		return pad(isoYear%100, 2, '0')
	case 'H':
		return pad(t.Hour(), 2, '0')
	case 'I':
		return pad((t.Hour()+11)%12+1, 2, '0')
	case 'j':
		return pad(t.YearDay(), 3, '0')
	case 'k':
		return pad(t.Hour(), 2, ' ')
	case 'l':
		return pad((t.Hour()+11)%12+1, 2, ' ')
	case 'm':
		return pad(int(t.Month()), 2, '0')
	case 'M':
		return pad(t.Minute(), 2, '0')
	case 'n':
		return "\n", true
	case 'p':
		return t.Format("PM"), true
	case 'P':
		return t.Format("pm"), true
	case 's':
		return fmt.Sprint(t.Unix()), true
	case 'S':
		return pad(t.Second(), 2, '0')
	case 't':
		return "\t", true
	case 'u':
		return pad((weekday+6)%7+1, 1, '0')
	case 'U':
		return pad((t.YearDay()+6-weekday)/7, 2, '0')
	case 'V':
		return pad(isoWeek, 2, '0')
	case 'w':
		return pad(weekday, 1, '0')
	case 'W':
		return pad((t.YearDay()+6-(weekday+6)%7)/7, 2, '0')
	case 'y':
		return pad(t.Year()%100, 2, '0')
	case 'Y':
		return pad(t.Year(), 4, '0')
	case 'z':
		return t.Format("-0700"), true
	case 'Z':
		return t.Format("MST"), true
	case '%':
		return "%", true
	}
	return "", false
}
