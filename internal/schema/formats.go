package schema

// IUVValid says whether s is a pagoPA notice number (18 digits that begin with
// 3) or its IUV (the 17 digits behind the 3): the last two digits are the first
// 16 of the notice number modulo 93 (SACI 3.2, aux digit 3).
func IUVValid(s string) bool {
	if len(s) == 17 {
		s = "3" + s
	}
	if len(s) != 18 || s[0] != '3' {
		return false
	}
	n := 0
	for i := range 16 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	check := n % 93
	return s[16] == byte('0'+check/10) && s[17] == byte('0'+check%10)
}
