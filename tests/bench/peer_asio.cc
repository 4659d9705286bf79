/*
 * peer_asio: the Boost.Asio echo server, one io_context run by --threads threads (2 by default).
 * Each connection is one chain of handlers (read, write, read ...), so it needs no strand. The
 * executor type is fixed at compile time, which is the fastest form that this library offers.
 */
#include <array>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio.hpp>

#include "peer.h"

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using executor = asio::io_context::executor_type;
using socket_type = asio::basic_stream_socket<tcp, executor>;
using acceptor_type = asio::basic_socket_acceptor<tcp, executor>;

class connection : public std::enable_shared_from_this<connection>
{
public:
    connection(socket_type socket, const peer_options &options)
        : socket_(std::move(socket)), options_(options)
    {
    }

    void receive()
    {
        socket_.async_read_some(
            asio::buffer(buf_),
            [self = shared_from_this()](const boost::system::error_code &error, size_t size) {
                if (!error)
                    self->reply(size);
            });
    }

private:
    void reply(size_t size)
    {
        peer_serve(&options_, buf_.data());
        asio::async_write(
            socket_, asio::buffer(buf_.data(), size),
            [self = shared_from_this()](const boost::system::error_code &error, size_t) {
                if (!error)
                    self->receive();
            });
    }

    socket_type socket_;
    const peer_options &options_;
    std::array<uint8_t, PEER_BUF_SIZE> buf_;
};

static void accept_next(acceptor_type &acceptor, const peer_options &options)
{
    acceptor.async_accept([&](const boost::system::error_code &error, socket_type socket) {
        if (!error)
            std::make_shared<connection>(std::move(socket), options)->receive();
        accept_next(acceptor, options);
    });
}

int main(int argc, char **argv)
{
    const peer_options options = peer_options_parse(argc, argv, 2);
    peer_prepare_process();
    asio::io_context context(static_cast<int>(options.threads));
    const bool ipv6 = strchr(options.host, ':') != nullptr;
    acceptor_type acceptor(context, ipv6 ? tcp::v6() : tcp::v4(), peer_listen(&options, 0));
    accept_next(acceptor, options);

    std::vector<std::thread> threads;
    for (uint32_t i = 1; i < options.threads; i++)
        threads.emplace_back([&context] { context.run(); });
    context.run();
    for (std::thread &thread : threads)
        thread.join();
    return 0;
}
