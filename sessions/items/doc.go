// Package items reads conversation items in the form of OpenAI's Responses API and makes chat messages of them.
//
// Parse checks every field of an item against a table and names the first one that is wrong. What it returns is complete:
// with an id, a status, content as a list of parts. That form is what is stored and what clients get back. Messages is the
// way from items to what a chat template renders.
//
// Models here understand text only, so images, files and audio are refused. Tools that a client runs itself are history like
// any other, and so are the hosted tools whose calls are text; the calls and results of all of them reach the model as tool
// calls and tool results.
package items
