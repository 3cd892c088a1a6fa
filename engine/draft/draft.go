package draft

// Drafter guesses tokens. One goroutine uses it.
type Drafter interface {
	// Source says which drafter it is.
	Source() Source
	// Propose sets Draft of each lane to at most Most guesses, and Class. It allocates nothing. A lane whose Most is 0
	// takes part because the drafter may have to follow its sequence.
	Propose(lanes []*Lane) error
}

// Source is where guesses come from.
type Source uint8

// The sources.
const (
	NGram Source = iota // earlier text of the same sequence
	NumSources
)

// String is the source's name in metrics and on the command line.
func (s Source) String() string { return [...]string{"ngram"}[s] }

// Lane is one sequence as drafters see it. Its memory is kept for the sequence's whole life.
type Lane struct {
	Tokens []int32 // of the sequence, all but the last computed
	Most   int     // guesses wanted
	Draft  []int32 // the guesses that are to be checked; capacity for the most there may be
	Source Source  // of Draft
	Class  int     // how sure the source is, 0 to NumClasses-1; it means something to the source alone

	Drafted, Accepted int // guesses checked so far, and those of them that were right

	index    *Index // nil without prompt lookup
	expected int    // tokens of index that are not the sequence's

	rates [NumSources][NumClasses]share // of the lane itself
	quiet int                           // proposals that were not checked since the last one that was
	pause int                           // how many of them until the next is tried all the same

	right        float64 // while Control chooses: probability that a guess is right,
	next         float64 // that the next one brings a token,
	length, keep int     // guesses taken so far, and of the best choice so far
}

// NewLane returns the memory of a sequence that may have so many guesses at once.
func NewLane(most int) Lane { return Lane{Draft: make([]int32, 0, most)} }
