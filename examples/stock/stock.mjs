// The middle: GET /articles/N asks for the price; of article 13 there is none.
import http from 'node:http';

function answer(response, status, body) {
  response.writeHead(status, {'Content-Type': 'application/json'});
  response.end(JSON.stringify(body));
}

http.createServer((request, response) => {
  const article = request.url.split('/').pop();
  if (article === '13') return answer(response, 404, {error: 'sold out'});
  const {traceparent} = request.headers;
  const headers = traceparent ? {traceparent} : {};
  http.get(`http://price:8080/prices/${article}`, {headers}, (found) => {
    const parts = [];
    found.on('data', (part) => parts.push(part));
    found.on('end', () => answer(response, found.statusCode, {article, price: String(Buffer.concat(parts))}));
  }).on('error', () => answer(response, 503, {error: 'the price is not known'}));
}).listen(8080);

process.on('SIGTERM', () => process.exit());
